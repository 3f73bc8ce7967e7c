#!/bin/bash
# certbot's deploy hook: brings a certificate to where mtad may read it, for /etc/letsencrypt is root's alone.
#   certbot certonly --standalone -d mail.example.org --deploy-hook /opt/mtad/scripts/certbot.sh
# certbot sets RENEWED_LINEAGE. [tls] cert = "tls/fullchain.pem", key = "tls/privkey.pem". The running daemon sees new
# files by itself within two minutes, and takes them once they belong together.
set -euo pipefail
umask 077

lineage=${RENEWED_LINEAGE:?is set by certbot: the directory with fullchain.pem and privkey.pem}
tls=/etc/mtad/tls
install -d -m 0750 -o root -g mtad "$tls"
for name in privkey.pem fullchain.pem; do
    install -m 0640 -o root -g mtad "$lineage/$name" "$tls/.$name.new"
done
for name in privkey.pem fullchain.pem; do mv "$tls/.$name.new" "$tls/$name"; done
