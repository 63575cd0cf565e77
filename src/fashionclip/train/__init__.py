"""Fine-tuning: a recipe and a catalogue in, a run folder with the checkpoint to keep out.

``recipe``       what a run is asked to do: groups of keys, each with its range
``values``       one value of a recipe, held against its key
``run``          the run folder: where everything lies, what is written beside it
``pairs``        catalogue rows and tars → pictures with their texts, and the split
``captions``     a product's texts → the caption of this epoch
``pictures``     a product's picture → the pixels of this epoch
``loader``       batches ahead of the device, the same ones whatever the number of workers
``towers``       a checkpoint → trainable weights, and back
``losses``       vectors → loss
``gradients``    cached gradients: large batches in small pieces
``optimizer``    Adam and AdamW, schedule, clipping, moving average
``distributed``  several processes as one
``state``        everything that a run needs to go on
``loop``         the steps
``selection``    which checkpoint to keep, and what other rules would have cost
``finish``       the choice, and the judgement on test pictures
``cost``         time, energy, CO2, money
``tune``         all of it in one go
"""
