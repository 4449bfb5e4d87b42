package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const lifetime = 30 * 24 * time.Hour

// authority signs; its key stays readable to its owner alone, like every key here.
type authority struct {
	directory   string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// certificates writes a new authority and what the components show each other: ca, apiserver (for the addresses),
// kubelet (for the addresses), kubelet-client, front-proxy, and sa.key, which signs service account tokens.
func certificates(directory string, addresses []string) error {
	ips := make([]net.IP, 0, len(addresses))
	for _, text := range addresses {
		ip := net.ParseIP(text)
		if ip == nil {
			return fmt.Errorf("%s is no address", text)
		}
		ips = append(ips, ip)
	}
	signer, err := newAuthority(directory)
	if err != nil {
		return err
	}
	server := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	for _, one := range []struct {
		name     string
		template x509.Certificate
	}{
		{"apiserver", x509.Certificate{Subject: pkix.Name{CommonName: "kube-apiserver"}, ExtKeyUsage: server, DNSNames: names, IPAddresses: ips}},
		{"kubelet", x509.Certificate{Subject: pkix.Name{CommonName: "kubelet"}, ExtKeyUsage: server, DNSNames: names[:1], IPAddresses: ips}},
		{"kubelet-client", x509.Certificate{Subject: pkix.Name{CommonName: "kube-apiserver", Organization: []string{"system:masters"}}, ExtKeyUsage: client}},
		{"front-proxy", x509.Certificate{Subject: pkix.Name{CommonName: "front-proxy"}, ExtKeyUsage: client}},
	} {
		if err := signer.sign(one.name, &one.template); err != nil {
			return err
		}
	}
	_, err = newKey(filepath.Join(directory, "sa.key"))
	return err
}

func newAuthority(directory string) (*authority, error) {
	key, err := newKey(filepath.Join(directory, "ca.key"))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "sandbox"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	made := &authority{directory: directory, key: key, certificate: template}
	return made, made.write("ca", template, key)
}

func (a *authority) sign(name string, template *x509.Certificate) error {
	key, err := newKey(filepath.Join(a.directory, name+".key"))
	if err != nil {
		return err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	return a.write(name, template, key)
}

func (a *authority) write(name string, template *x509.Certificate, key *ecdsa.PrivateKey) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Minute)
	template.NotAfter = time.Now().Add(lifetime)
	made, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		return err
	}
	return writePEM(filepath.Join(a.directory, name+".crt"), "CERTIFICATE", made)
}

func newKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	plain, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(path, "EC PRIVATE KEY", plain)
}

func writePEM(path, kind string, content []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600)
}
