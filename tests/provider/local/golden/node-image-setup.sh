set -eu
rm -f /etc/ssh/ssh_host_*
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id
mkdir -p /etc/ssh/authorized_keys.d
cat >/etc/ssh/sshd_config.d/10-aifactory.conf <<'EOF'
# Managed by aifactory (provider/local/image_recipe.py).
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/authorized_keys.d/%u
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
UseDNS no
EOF
useradd --create-home --shell /bin/bash ops
cat >/etc/sudoers.d/ops <<'EOF'
ops ALL=(ALL) NOPASSWD: ALL
EOF
chmod 0440 /etc/sudoers.d/ops
systemctl mask systemd-modules-load.service systemd-udevd.service systemd-logind.service getty@tty1.service console-getty.service apt-daily.timer apt-daily-upgrade.timer e2scrub_reap.service
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
touch -d @0 /var/lib/apt/lists
