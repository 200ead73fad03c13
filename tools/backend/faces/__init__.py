"""Device faces: one module for each protocol that devices speak to the backend."""
