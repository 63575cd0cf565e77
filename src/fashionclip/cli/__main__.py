"""``python -m fashionclip.cli``: the program, where its script is not on the path."""

from fashionclip.cli.main import main

main()
