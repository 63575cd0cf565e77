"""Fine-tuning: from a recipe and a catalogue to a run folder with the selected checkpoint.

``recipe``       the settings of a run, each with its range
``data``         pairs of images and texts, and their split (``tars``: WebDataset shards)
``augment``      random captions and images of a pair
``loader``       batches ahead of the device
``model``        towers with trainable weights, their forward pass, checkpoints, and teachers
``loss``         the table of loss terms (``prompts``: zero-shot classification as one)
``optimizer``    cached gradients, Adam and AdamW, schedule, moving average
``distributed``  several processes
``setup``        everything before the first step: data, split, start, run folder
``state``        what a killed run resumes from
``loop``         the steps
``run``          the run folder and its log
``selection``    the selection of a checkpoint, and what other rules would have cost
``cost``         time, energy, CO2, money
``tune``         all of it in one call
"""
