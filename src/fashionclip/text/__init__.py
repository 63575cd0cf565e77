"""Text: captions of products, prompts of labels (``captions``), tokens (``tokenizer``)."""
