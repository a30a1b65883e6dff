#!/bin/sh
# Makes the certificates of the tests in `tls.rs` anew. The authorities' keys are thrown away; nothing outside these tests
# trusts them. Needs openssl.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

authority() { # authority NAME SUBJECT: NAME.pem, valid 2020 to 2120
  mkdir "$work/$1"
  : >"$work/$1/index.txt"
  cat >"$work/$1/config" <<CONFIG
[ca]
default_ca = site
[site]
dir = $work/$1
new_certs_dir = $work/$1
database = $work/$1/index.txt
rand_serial = yes
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
CONFIG
  openssl ecparam -name prime256v1 -genkey -noout -out "$work/$1/key.pem"
  openssl req -new -key "$work/$1/key.pem" -subj "/CN=$2" -out "$work/$1/request.pem" \
    -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign,cRLSign
  openssl ca -batch -notext -config "$work/$1/config" -selfsign -keyfile "$work/$1/key.pem" -in "$work/$1/request.pem" \
    -startdate 20200101000000Z -enddate 21200101000000Z -out "$1.pem"
}

certificate() { # certificate NAME NAMES END: NAME.pem by the first authority, for the server's key
  openssl req -new -key server-key.pem -subj /CN=test -out "$work/request.pem" \
    -addext "subjectAltName=$2" -addext extendedKeyUsage=serverAuth -addext basicConstraints=critical,CA:false
  openssl ca -batch -notext -config "$work/ca/config" -keyfile "$work/ca/key.pem" -cert ca.pem -in "$work/request.pem" \
    -startdate 20200101000000Z -enddate "$3" -out "$1.pem"
}

openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out server-key.pem
authority ca 'amie-usage test authority'
authority other-ca 'another test authority'
certificate server IP:127.0.0.1,DNS:localhost,DNS:usage.access-ci.invalid 21200101000000Z
certificate expired IP:127.0.0.1,DNS:localhost,DNS:usage.access-ci.invalid 20210101000000Z
certificate elsewhere DNS:elsewhere.example.org 21200101000000Z
