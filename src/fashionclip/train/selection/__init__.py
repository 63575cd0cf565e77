"""Which checkpoint to keep: the question that in-domain loss answers wrongly.

``candidates``  checkpoints, interpolations with the start, averages
``suite``       what every candidate is asked, on development pictures only
``scoring``     a candidate's answers as figures
``rules``       ways to choose, as data; what each would have cost on a set left out
``curves``      the figures over the steps, drawn
``select``      from a run folder to the checkpoint that is kept: ``selected/``
``report``      ``selection.json``, ``.md`` and ``.svg``
"""
