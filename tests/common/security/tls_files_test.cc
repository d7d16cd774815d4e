#include "common/security/tls_files.h"

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/model/temp_folder.h"
#include "tests/common/security/certificates.h"

namespace kvec::security {
namespace {

using testing::HasSubstr;

class TlsFilesTest : public testing::Test {
 protected:
  const TestAuthority authority_{"authority"};
  const Identity identity_ = authority_.Sign("server");
  const TempFolder folder_;
  const std::string certificate_ = folder_.Write("tls.crt", identity_.certificate);
  const std::string key_ = folder_.Write("tls.key", identity_.key);
};

TEST_F(TlsFilesTest, TakesACertificateAndItsKey) {
  EXPECT_TRUE(CheckIdentityFiles(certificate_, key_).ok());
  EXPECT_TRUE(CheckAuthorityFile(folder_.Write("ca.crt", authority_.certificate())).ok());
}

TEST_F(TlsFilesTest, TakesAChain) {
  const std::string chain =
      folder_.Write("chain.crt", identity_.certificate + authority_.certificate());
  EXPECT_TRUE(CheckIdentityFiles(chain, key_).ok());
}

TEST_F(TlsFilesTest, NamesTheFileThatCantBeUsed) {
  const std::string other_key = folder_.Write("other.key", authority_.Sign("other").key);
  const std::string garbage = folder_.Write("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n");
  const struct {
    std::string certificate;
    std::string key;
    std::string message;
  } cases[] = {
      {folder_.File("none"), key_, "/none: cannot open"},
      {certificate_, folder_.File("none"), "/none: cannot open"},
      {garbage, key_, "/garbage: has no certificate"},
      {certificate_, garbage, "/garbage: has no private key"},
      {key_, key_, "/tls.key: has no certificate"},
      {certificate_, certificate_, "/tls.crt: has no private key"},
      {certificate_, other_key, "/other.key: is not the key of the certificate"},
  };
  for (const auto& test : cases) {
    const absl::Status status = CheckIdentityFiles(test.certificate, test.key);
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(status.message(), HasSubstr(test.message));
  }
  EXPECT_THAT(CheckAuthorityFile(garbage).message(), HasSubstr("/garbage: has no certificate"));
}

TEST_F(TlsFilesTest, KnowsWhenACertificateExpires) {
  const absl::StatusOr<absl::Time> expiry = ExpiryOf(certificate_);
  ASSERT_TRUE(expiry.ok()) << expiry.status();
  EXPECT_LT(absl::AbsDuration(*expiry - absl::Now() - absl::Hours(1)), absl::Minutes(5));
}

}  // namespace
}  // namespace kvec::security
