"""A music demixing package in the shape of the Sound Demixing Challenge 2023 starter kit."""
