"""Every registered forecaster, and the variants that differ in what they learn."""

from collections.abc import Mapping

from factories.configs import (
    BENKTANDER,
    BOOSTING,
    CHAIN_LADDER,
    COVARIATES,
    GROWTH_LSTM,
    LSTM,
    MIXTURE,
    MLP_NET,
    PATTERN,
    TIDE_NET,
    TRAINING,
    Config,
    corrected_config,
    model_config,
)

FORECASTERS: Mapping[str, Config] = {
    "pattern": PATTERN,
    "chain_ladder": CHAIN_LADDER,
    "recency": PATTERN | {"half_life": 90.0, "tail": "inverse_power"},
    "lstm": LSTM,
    "lstm covariates": LSTM | {"covariates": COVARIATES | {"spend": True, "calendar": True}},
    "mlp": LSTM | {"net": MLP_NET},
    "tide": LSTM | {"net": TIDE_NET | {"norm": True}},
    "mack": model_config("mack", pattern=PATTERN),
    "mack_recent": model_config("mack", recent=8, pattern=PATTERN),
    "benktander": BENKTANDER,
    "bornhuetter_ferguson": model_config("bornhuetter_ferguson", pattern=PATTERN),
    "cape_cod": model_config("cape_cod", half_life=90.0, pattern=PATTERN),
    "additive": BENKTANDER | {"iterations": 1, "prior": "additive"},
    "weibull": model_config("weibull", pattern=PATTERN),
    "loglogistic": model_config("loglogistic", pattern=PATTERN),
    "loglinear": model_config("loglinear", min_cohorts=8, pattern=PATTERN),
    "power_law": model_config("power_law", pattern=PATTERN),
    "neighbours": model_config("neighbours", count=10, pattern=PATTERN),
    "boosting": BOOSTING,
    "boosting_departure": BOOSTING | {"target": "departure"},
    "growth_lstm": GROWTH_LSTM,
    "corrected chain_ladder": corrected_config(CHAIN_LADDER, 4, 6),
    "corrected lstm": corrected_config(LSTM | {"training": TRAINING | {"epochs": 1}}, 13, 2),
    "corrected best": corrected_config(MIXTURE, 4, 6),
}
