"""What a study may name: methods, models, datasets, strategies, analyses, figures; their facts and settings.

Nothing here computes. An entry names its code by an import string, which is loaded where it runs: reading a study, and
planning it, load no torch.
"""
