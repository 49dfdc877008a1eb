"""What is audited: images, their pools, and who is a member."""
