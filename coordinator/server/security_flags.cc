#include "coordinator/server/security_flags.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/security/listen_address.h"
#include "common/security/secret.h"
#include "common/status_macros.h"

namespace kvec::coordinator::server {
namespace {

constexpr char kGroup[] = "Security";
constexpr char kJoinTokenVariable[] = "KVEC_JOIN_TOKEN";

CLI::Option* AddFile(CLI::App& app, const std::string& flag, std::string& path,
                     const std::string& help) {
  return app.add_option(flag, path, help)->type_name("FILE")->group(kGroup);
}

// PREFIXcert, PREFIXkey and PREFIXclient-ca of a listener that `peers` come to.
void AddTlsFlags(CLI::App& app, const std::string& prefix, absl::string_view peers,
                 security::ServerTls& tls, const std::string& certificate_help) {
  CLI::Option* certificate = AddFile(app, prefix + "cert", tls.certificate, certificate_help);
  CLI::Option* key =
      AddFile(app, prefix + "key", tls.key, "PEM file with its key")->needs(certificate);
  certificate->needs(key);
  AddFile(app, prefix + "client-ca", tls.client_ca,
          absl::StrCat(peers, " must show a certificate of an authority in this PEM file"))
      ->needs(certificate);
}

// What a listener has, and the flags by which it would have it.
struct Protection {
  absl::string_view flag;
  absl::string_view address;
  bool is_encrypted;
  absl::string_view encrypt_flags;
  bool knows_peers;
  absl::string_view know_flags;
};

absl::Status CheckExposure(const Protection& listener) {
  if (security::IsLocalAddress(listener.address)) return absl::OkStatus();
  if (!listener.is_encrypted) {
    return absl::InvalidArgumentError(absl::StrCat(
        listener.flag, ": ", listener.address, " is beyond the loopback and not encrypted: ",
        listener.encrypt_flags, " is missing; --insecure is for networks that are fenced"));
  }
  if (!listener.knows_peers) {
    return absl::InvalidArgumentError(absl::StrCat(
        listener.flag, ": ", listener.address, " is beyond the loopback and takes anybody: ",
        listener.know_flags, " is missing; --insecure is for networks that are fenced"));
  }
  return absl::OkStatus();
}

}  // namespace

void AddSecurityFlags(CLI::App& app, SecurityFlags& flags) {
  AddTlsFlags(
      app, "--tls-", "Clients", flags.tls,
      "Encrypts the clients' port: PEM file with the certificate and its chain. Certificates, "
      "keys and tokens are read again when their files change; replace files, don't edit "
      "them");
  AddFile(app, "--tokens", flags.tokens,
          "Clients must send a bearer token whose SHA-256 is in this file, made by `kvec token`; "
          "grpc.health.v1 alone stays open");
  app.add_option("--local-listen", flags.local_listen,
                 "A second port for clients, HOST:PORT on the loopback or unix:PATH, that is not "
                 "encrypted and asks for nothing: for a gateway or a probe beside the coordinator")
      ->group(kGroup);
  app.add_flag(
         "--local-aliases", flags.local_aliases,
         "Every --alias is on the loopback and asks for nothing, too: vLLM's gateways know no "
         "tokens. Without it aliases ask for what the clients' port does")
      ->group(kGroup);
  AddTlsFlags(app, "--cluster-tls-", "Workers", flags.cluster_tls,
              "Encrypts the workers' port. What workers send each other is never encrypted");
  AddFile(
      app, "--join-token-file", flags.join_token_file,
      "Workers must send the token in this file (default: in the environment's KVEC_JOIN_TOKEN)");
  app.add_flag("--insecure", flags.insecure,
               "Allows addresses beyond the loopback that are not encrypted or take anybody")
      ->group(kGroup);
}

absl::Status ApplySecurity(const SecurityFlags& flags, CoordinatorServer::Options& options) {
  options.tls = flags.tls;
  options.tokens_file = flags.tokens;
  options.cluster_tls = flags.cluster_tls;
  options.join_token_file = flags.join_token_file;
  options.local_listen = flags.local_listen;
  if (flags.join_token_file.empty()) {
    KVEC_ASSIGN_OR_RETURN(options.join_token, security::ReadToken("", kJoinTokenVariable));
  }
  if (!flags.local_listen.empty() && !security::IsLocalAddress(flags.local_listen)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--local-listen: ", flags.local_listen, " is not on the loopback"));
  }
  options.local_aliases = flags.local_aliases;
  for (const ModelAlias& alias : options.aliases) {
    if (!flags.local_aliases || security::IsLocalAddress(alias.listen)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--local-aliases: ", alias.listen, " is not on the loopback"));
  }
  if (flags.insecure) return absl::OkStatus();
  const auto check_client_address = [&](absl::string_view flag, absl::string_view address) {
    return CheckExposure({flag, address, !flags.tls.certificate.empty(), "--tls-cert",
                          !flags.tokens.empty() || !flags.tls.client_ca.empty(),
                          "--tokens or --tls-client-ca"});
  };
  KVEC_RETURN_IF_ERROR(check_client_address("--listen", options.listen));
  for (const ModelAlias& alias : options.aliases) {
    KVEC_RETURN_IF_ERROR(check_client_address("--alias", alias.listen));
  }
  return CheckExposure({"--cluster-listen", options.cluster_listen,
                        !flags.cluster_tls.certificate.empty(), "--cluster-tls-cert",
                        !options.join_token_file.empty() || !options.join_token.empty() ||
                            !flags.cluster_tls.client_ca.empty(),
                        "--join-token-file or --cluster-tls-client-ca"});
}

}  // namespace kvec::coordinator::server
