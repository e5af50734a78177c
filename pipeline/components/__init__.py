"""TFX components of this project, and the checks behind them."""
