#include "tests/common/security/certificates.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "gtest/gtest.h"

namespace kvec::security {
namespace {

constexpr long kValidSeconds = 3600;  // NOLINT(google-runtime-int): OpenSSL's type

void AddExtension(X509* certificate, X509* issuer, int id, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str());
  ASSERT_NE(extension, nullptr) << value;
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

template <typename Writer>
std::string WritePem(const Writer& write) {
  BIO* bio = BIO_new(BIO_s_mem());
  EXPECT_EQ(write(bio), 1);
  char* data = nullptr;
  const auto size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<size_t>(size));
  BIO_free(bio);
  return text;
}

}  // namespace

TestAuthority::TestAuthority(const std::string& name)
    : key_(EVP_EC_gen("P-256")), certificate_(Make(name, "", key_.get(), nullptr, key_.get())) {
  identity_ = ToPem(certificate_.get(), key_.get());
}

Identity TestAuthority::Sign(const std::string& common_name, const std::string& names) const {
  const Key key(EVP_EC_gen("P-256"));
  const Certificate certificate =
      Make(common_name, names, key.get(), certificate_.get(), key_.get());
  return ToPem(certificate.get(), key.get());
}

TestAuthority::Certificate TestAuthority::Make(const std::string& common_name,
                                               const std::string& names, EVP_PKEY* key,
                                               X509* issuer, EVP_PKEY* issuer_key) {
  Certificate certificate(X509_new());
  X509_set_version(certificate.get(), X509_VERSION_3);
  unsigned char serial[4];
  RAND_bytes(serial, sizeof(serial));
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()),
                   serial[0] << 16 | serial[1] << 8 | serial[2]);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -kValidSeconds);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), kValidSeconds);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1,
                             0);
  X509* const signer = issuer == nullptr ? certificate.get() : issuer;
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(signer));
  X509_set_pubkey(certificate.get(), key);
  AddExtension(certificate.get(), signer, NID_basic_constraints,
               issuer == nullptr ? "critical,CA:TRUE" : "CA:FALSE");
  if (!names.empty()) AddExtension(certificate.get(), signer, NID_subject_alt_name, names);
  EXPECT_GT(X509_sign(certificate.get(), issuer_key, EVP_sha256()), 0);
  return certificate;
}

Identity TestAuthority::ToPem(X509* certificate, EVP_PKEY* key) {
  return {WritePem([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate); }),
          WritePem([&](BIO* bio) {
            return PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
          })};
}

}  // namespace kvec::security
