"""Audits: for whom, on which pictures and by which words a model finds a catalogue's products.

``shop``          a catalogue's products with their vectors, as every audit takes them
``exposure``      which groups the first places of neutral queries go to
``gender``, ``background``, ``query_length``, ``brands``, ``prices``  the audits, a module each
``cutouts``       products cut out, and placed on other grounds
``run``           all audits of one model on one catalogue; ``results`` on disk; ``report``
"""
