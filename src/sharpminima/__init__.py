"""sharpminima: does gradual pruning find sharp minima that still generalise?

Reproduces Tartaglione, Bragagnolo and Grangetto, "Pruning artificial neural networks: a way to find
well-generalizing, high-entropy sharp minima" (ICANN 2020), and offers its comparison to other methods.
"""

__version__ = "0.1.0"
