"""``python -m fashionclip.cli``, for when the ``fashionclip`` script is not on PATH."""

from fashionclip.cli.main import main

main()
