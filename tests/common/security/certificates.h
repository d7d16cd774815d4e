#ifndef KVEC_TESTS_COMMON_SECURITY_CERTIFICATES_H_
#define KVEC_TESTS_COMMON_SECURITY_CERTIFICATES_H_

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <memory>
#include <string>

namespace kvec::security {

// A certificate and its key, in PEM form.
struct Identity {
  std::string certificate;
  std::string key;
};

// An authority of a test, with a key of its own, that signs what the test wants.
class TestAuthority {
 public:
  explicit TestAuthority(const std::string& name);

  const std::string& certificate() const { return identity_.certificate; }

  // `names`: what X509v3 calls subjectAltName, "DNS:localhost,IP:127.0.0.1".
  Identity Sign(const std::string& common_name,
                const std::string& names = "DNS:localhost,IP:127.0.0.1") const;

 private:
  struct Free {
    void operator()(X509* certificate) const { X509_free(certificate); }
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  };
  using Certificate = std::unique_ptr<X509, Free>;
  using Key = std::unique_ptr<EVP_PKEY, Free>;

  // Signed by itself where `issuer` is null.
  static Certificate Make(const std::string& common_name, const std::string& names, EVP_PKEY* key,
                          X509* issuer, EVP_PKEY* issuer_key);
  static Identity ToPem(X509* certificate, EVP_PKEY* key);

  Key key_;
  Certificate certificate_;
  Identity identity_;
};

}  // namespace kvec::security

#endif  // KVEC_TESTS_COMMON_SECURITY_CERTIFICATES_H_
