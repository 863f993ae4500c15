"""The schema's two Alembic histories, `journal` and `main`, and what their env.py files share."""
