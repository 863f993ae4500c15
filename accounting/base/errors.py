"""Mistakes that an operator can mend: each says in one line what is wrong, where, and what to do."""


class TollbookError(Exception):
    """One line for the operator; the command line prints it and exits 1."""


class SettingsError(TollbookError):
    """Wrong settings; one line per mistake."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)
