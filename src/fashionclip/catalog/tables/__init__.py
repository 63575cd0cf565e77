"""Files in, rows of cells out: one module per table format.

``formats``    which files a path means, and the list of formats
``table``      what all formats give: ``Table``, ``Row``, ``BrokenRow``
``text``       compression and encoding of text files
``delimited``, ``json_lines``, ``parquet``   the formats
"""
