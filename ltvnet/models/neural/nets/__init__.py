"""Networks: torch only, tensors in, tensors out. Each maps `heads.Inputs` to `heads.Head` raw z."""
