"""What runs on a simulated node: one program with many names. Standard library only, no Ansible, no network."""
