"""Training: the loop (`loop.py`) and the base of models trained by gradient (`torch_model.py`)."""
