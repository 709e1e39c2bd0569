"""What `edgeclf bench` has beyond the runtime: candidates that want PyTorch, the page, and the recommendation."""
