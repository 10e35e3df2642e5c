"""Seven pretrained face networks: their modules, their weights, and what each is asked about a photograph."""
