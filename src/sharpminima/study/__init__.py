"""What a study is: its settings, where its files lie, what its jobs are and cost."""
