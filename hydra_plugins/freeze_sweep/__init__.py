"""What Hydra finds of freeze-sweep: its sweeper and its launchers."""
