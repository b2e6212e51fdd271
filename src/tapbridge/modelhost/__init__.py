"""A Host made of `effect`: for tests and previews."""
