"""Probes: what a model sees and what it does not, one ability at a time.

``products``    products whose garment and attributes are known: drawn ones, or a catalogue's
``captions``    right and wrong captions of their pictures: half-truths, paraphrases, negation
``scenes``      drawn pictures of several garments: swapped colours, counting
``pairs``       scoring of right captions against wrong ones, with a text-only baseline
``figures``     intervals, and no figure for too few items
``typographic`` words printed on pictures, and the labels that they turn
``sensitivity`` how much the answers depend on the wording of a query
``run``         probes by name; models on probes

Results and reports are those of ``evaluate``.
"""
