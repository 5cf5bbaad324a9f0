"""From a product to a finished video sales letter."""
