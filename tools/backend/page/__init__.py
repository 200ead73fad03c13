"""The web page for people who run the backend: its data, its feed of changes, its files."""
