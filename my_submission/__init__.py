"""A music demixing package with the layout of the Sound Demixing Challenge 2023 starter kit."""
