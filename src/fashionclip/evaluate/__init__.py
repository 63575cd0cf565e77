"""Evaluation: models on benchmarks, with confidence intervals, leakage checks and reports.

``tasks``       the five kinds of task, as plain data
``benchmarks``  data sets that make tasks, a module each
``cache``       vectors of images and texts, encoded once
``zero_shot``, ``retrieval``, ``probe``, ``wrong_attribute``  a scorer for each kind of task
``prompts``     styles of prompts, and the choice of one on development images
``leakage``     which test items were in the training data
``run``         models on tasks; ``results`` on disk; ``report`` as Markdown and HTML
``compare``     two models, item by item
"""
