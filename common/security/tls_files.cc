#include "common/security/tls_files.h"

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <ctime>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/security/secret.h"
#include "common/status_macros.h"

namespace kvec::security {
namespace {

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using Certificate = std::unique_ptr<X509, Free>;

// No password: OpenSSL would ask for one on the terminal.
int NoPassword(char* buffer, int size, int writing, void* data) { return -1; }

// The first certificate in the file. OpenSSL's errors stay in a queue of the thread, where gRPC's
// handshakes would find them.
absl::StatusOr<Certificate> ReadCertificate(const std::string& path) {
  KVEC_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path));
  const std::unique_ptr<BIO, Free> bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  Certificate certificate(PEM_read_bio_X509(bio.get(), nullptr, &NoPassword, nullptr));
  ERR_clear_error();
  if (certificate != nullptr) return certificate;
  return absl::InvalidArgumentError(absl::StrCat(path, ": has no certificate in PEM form"));
}

}  // namespace

absl::Status CheckIdentityFiles(const std::string& certificate_path, const std::string& key_path) {
  KVEC_ASSIGN_OR_RETURN(const Certificate certificate, ReadCertificate(certificate_path));
  KVEC_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(key_path));
  const std::unique_ptr<BIO, Free> bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  const std::unique_ptr<EVP_PKEY, Free> key(
      PEM_read_bio_PrivateKey(bio.get(), nullptr, &NoPassword, nullptr));
  const bool fits = key != nullptr && X509_check_private_key(certificate.get(), key.get()) == 1;
  ERR_clear_error();
  if (key == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(key_path, ": has no private key in PEM form without a password"));
  }
  if (!fits) {
    return absl::InvalidArgumentError(
        absl::StrCat(key_path, ": is not the key of the certificate in ", certificate_path));
  }
  return absl::OkStatus();
}

absl::Status CheckAuthorityFile(const std::string& path) { return ReadCertificate(path).status(); }

absl::StatusOr<absl::Time> ExpiryOf(const std::string& path) {
  KVEC_ASSIGN_OR_RETURN(const Certificate certificate, ReadCertificate(path));
  std::tm time = {};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &time) != 1) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": its certificate has no valid end"));
  }
  return absl::FromTM(time, absl::UTCTimeZone());
}

}  // namespace kvec::security
