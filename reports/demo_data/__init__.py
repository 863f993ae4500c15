"""Rate decks of the demo: data, loaded by reports.demo."""
