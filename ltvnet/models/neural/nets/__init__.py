"""Networks: torch only, tensors in, tensors out. Each maps `heads.TaskInputs` to raw z (B, I, Q).

    heads.py    the contract of all nets: inputs, targets, sizes, embeddings of attributes, the head
    losses.py   the loss of raw z against targets, with its gradient written out
    blocks.py   residual blocks
    lstm.py  mlp.py  tide.py    one net each

A net is built of `sizes` (InputSizes) and the arguments of its config, knows no money, dates or
names, and ends in a layer that starts at zero: untrained, it is the historical pattern. Nothing
here imports anything of ltvnet but `nets`; `models/neural` imports nets by name when one is built.

To add one: a module with a class that takes `sizes` and its arguments by keyword and holds
`AttributeEmbeddings` as `attributes` (a warm start looks for them there), a line in
`forecaster.NETS`, a file in `configs/model` and one in `configs/space`, the name in the table of
configs/README.md, and a line in tests/factories/all_forecasters.py for contract and leak tests.
"""
