"""Selection of the checkpoint to keep, by held-out pairs and by sets outside the training data.

``candidates``  checkpoints, their average, and interpolations with the start
``suite``       the development tasks of every candidate, and its scores on them
``rules``       selection rules as data, and what each would have cost on a set left out
``select``      from a run folder to ``selected/``
``report``      ``selection.json``, ``.md`` and ``.svg``
"""
