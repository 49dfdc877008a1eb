"""One release beside private and held-out images, where no model can be trained again."""
