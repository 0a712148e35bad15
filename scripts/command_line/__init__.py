"""The command line of the scripts: what was typed, what it means, and what is said of it.

- `words`: words as typed become overrides of Hydra; values of text are taken as they are.
- `saved_config`: the folder of a run is its own while it works, and keeps its config.
- `next_lines`: commands to run next.
- `help_page`: what --help prints.
"""
