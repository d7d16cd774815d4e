#include "common/security/client_flags.h"

namespace kvec::security {
namespace {

constexpr char kGroup[] = "Security";

}  // namespace

void AddClientTlsFlags(CLI::App& app, ClientTls& tls) {
  app.add_flag("--tls", tls.enabled,
               "Encrypts the connection; the system's authorities vouch for the coordinator")
      ->group(kGroup);
  app.add_option("--tls-ca", tls.ca, "The same, but those in this PEM file vouch for it")
      ->type_name("FILE")
      ->group(kGroup);
  CLI::Option* certificate =
      app.add_option("--tls-cert", tls.certificate,
                     "PEM file with the certificate to show to the coordinator, and its chain")
          ->type_name("FILE")
          ->group(kGroup);
  CLI::Option* key = app.add_option("--tls-key", tls.key, "PEM file with that certificate's key")
                         ->type_name("FILE")
                         ->group(kGroup);
  certificate->needs(key);
  key->needs(certificate);
  app.add_option("--tls-server-name", tls.server_name,
                 "Name in the coordinator's certificate, where it is not the host that is dialled")
      ->type_name("NAME")
      ->group(kGroup);
}

}  // namespace kvec::security
