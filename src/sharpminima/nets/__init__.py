"""What a net is: models, masks, checkpoints, counts, and how a pruned one computes."""
