"""The BERT family: pretrained encoders behind the same switch as the from-scratch transformer."""
