"""Video sales letters: from a product to a finished film."""
