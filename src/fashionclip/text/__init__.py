"""Text: product captions and label prompts (``captions``), tokens (``tokenizer``)."""
