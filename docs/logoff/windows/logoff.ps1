# Logs this computer's address out of the gateway, by PowerShell 5.1 or 7. See docs/LOGOFF.md.
#   logoff.ps1 -Gateway gateway.example.com                    under TLS, where Windows trusts the certificate
#   logoff.ps1 -Gateway gateway.example.com -AnyCertificate    under TLS, whatever the certificate is (self-signed)
#   logoff.ps1 -Gateway gateway.example.com -Http              without TLS
param(
    [Parameter(Mandatory = $true)][string]$Gateway,
    [switch]$AnyCertificate,
    [switch]$Http
)
$ErrorActionPreference = 'Stop'
$uri = if ($Http) { "http://${Gateway}:4080/internal/logout" } else { "https://${Gateway}:4081/internal/logout" }
$request = @{ Uri = $uri; UseBasicParsing = $true; UserAgent = 'tracker-logoff'; TimeoutSec = 5 }

# Never through the proxy itself: there the gateway would see its own address.
if ($PSVersionTable.PSVersion.Major -ge 6) {
    $request.NoProxy = $true
    if ($AnyCertificate) { $request.SkipCertificateCheck = $true }
} else {
    [System.Net.WebRequest]::DefaultWebProxy = $null
    [System.Net.ServicePointManager]::SecurityProtocol = [System.Net.SecurityProtocolType]::Tls12
    if ($AnyCertificate) {
        # A script block would be called on a thread that has no PowerShell; a class is not.
        Add-Type -TypeDefinition @'
using System.Net;
public static class TrackerLogoff {
    public static void TrustAny() {
        ServicePointManager.ServerCertificateValidationCallback = (sender, certificate, chain, errors) => true;
    }
}
'@
        [TrackerLogoff]::TrustAny()
    }
}
try {
    Invoke-WebRequest @request | Out-Null
    exit 0
} catch {
    Write-Error -Message "$uri : $($_.Exception.Message)" -ErrorAction Continue
    exit 1
}
