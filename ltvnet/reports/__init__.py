"""Reports: all that is drawn and worded for people. Nothing is computed here.

`wording` numbers in words; `html` and `markdown` what pages and tables are made of; `figures`
and `findings` how good past forecasts were, drawn and said; `model_page` and
`model_page_sections` the page of a model; `leaderboard_tables` that of several; `sweep_report`
of a search for better values, with `sweep_figures` drawn and the best in an `experiment_file`;
`run_report` for a terminal, `data_summary` what is in data; `tensorboard` for
TensorBoard, with `fonts` for its pictures.
"""
