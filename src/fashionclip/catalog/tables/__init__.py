"""Files in, rows of cells out: one module per table format.

``formats``    which files a path means, and the list of formats
``table``      what all formats give: ``Table``, ``Row``, ``BrokenRow``
``delimited``  delimited text, with ``dialects`` (delimiter, header, quotes) and ``records``
``json_documents``, ``xml_feeds``   JSON and XML, with ``nested`` (objects as flat rows)
``workbooks``, ``parquet``, ``tars``, ``folders``   the other formats
``text``, ``encodings``   compression and encoding of text files
"""
