"""What moves when you touch it: widgets for running notebooks, and the page of `starclip browse`."""
