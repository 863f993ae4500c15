"""A client's settings as the source version that its events are journalled with."""

from accounting.base.config import ClientSettings, SourceSettings, source_of
from accounting.event import Source
from accounting.radius.dictionary import dictionary_text


def source_version(settings: SourceSettings) -> Source:
    """Return a client's or collector's settings as a source, a dictionary file as one checked text.

    TollbookError (file and line) if the dictionary cannot be read.
    """
    source = source_of(settings)
    if isinstance(settings, ClientSettings):
        return source._replace(dictionary=dictionary_text(settings.dictionary))
    return source
