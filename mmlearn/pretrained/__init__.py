"""Public weights, loaded into our modules with every key and shape matched."""
