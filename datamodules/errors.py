"""The error that datamodules raise for data that cannot be used."""


class DataError(Exception):
    """One line for the user: what is wrong with the data and what would be right."""
