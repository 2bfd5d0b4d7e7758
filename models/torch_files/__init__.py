"""Files of `torch.save`, read without running code in them."""
