// The control plane: Service Bus, storage, the Functions app and its identity. One per tenant.
// Deployed by `azd provision` into a resource group of its own; the clusters follow with
// cluster.json, and each space with space.json. Never compiled or deployed yet: see docs/status.md.
targetScope = 'resourceGroup'

@description('Where the control plane runs. Spaces live in their own clusters.')
param location string = resourceGroup().location

@minLength(3)
@maxLength(12)
@description('Part of every name; lower-case letters and digits.')
param prefix string = 'kpax'

@description('The domain under which spaces answer.')
param spaceDomain string

@description('Base64 of the 32 bytes that sign routing decisions.')
@secure()
param decisionKey string

@description('Where the billing system lists its subscriptions (docs/contracts/billing-list.json); empty: nowhere.')
param billingUrl string = ''

@description('The bearer token for that list.')
@secure()
param billingToken string = ''

@description('The key that callers of the HTTP interface send.')
@secure()
param apiKey string

var queues = loadJsonContent('queues.json').queues
var unique = uniqueString(resourceGroup().id)
var clusters = [ 'france', 'uk', 'united-states', 'canada', 'south-africa', 'india' ]
// What cluster.json makes in each cluster, by its computed names.
var clusterVaults = toObject(clusters, name => name, name => 'https://kv-kx-${name}${environment().suffixes.keyvaultDns}/')
var backupAccounts = toObject(clusters, name => name, name => 'https://kxbak${replace(name, '-', '')}.blob.${environment().suffixes.storage}')
var tags = { 'kpax-part': 'control-plane' }
var roles = {
  blobOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  tableContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
  busOwner: '090c5cfd-751d-490a-894a-3ce6f1109419'
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-${prefix}-control'
  location: location
  tags: tags
}

resource storage 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: take('${prefix}control${unique}', 24)
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: 'Standard_ZRS' }
  properties: {
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
  }

  resource blobs 'blobServices' = {
    name: 'default'
    resource packages 'containers' = { name: 'app-package' }
  }
}

resource bus 'Microsoft.ServiceBus/namespaces@2024-01-01' = {
  name: '${prefix}-bus-${unique}'
  location: location
  tags: tags
  sku: { name: 'Standard', tier: 'Standard' }
  properties: {
    minimumTlsVersion: '1.2'
    disableLocalAuth: true
  }
}

resource queue 'Microsoft.ServiceBus/namespaces/queues@2024-01-01' = [
  for one in queues: {
    parent: bus
    name: one.name
    properties: {
      lockDuration: 'PT${one.lock_duration_s}S'
      maxDeliveryCount: one.max_delivery_count
      requiresDuplicateDetection: true
      duplicateDetectionHistoryTimeWindow: 'PT${one.duplicate_window_s}S'
      requiresSession: one.requires_session
      deadLetteringOnMessageExpiration: true
    }
  }
]

resource logs 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: 'log-${prefix}-${unique}'
  location: location
  tags: tags
  properties: { sku: { name: 'PerGB2018' }, retentionInDays: 30 }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-${prefix}-${unique}'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: logs.id
    DisableLocalAuth: true
  }
}

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: 'plan-${prefix}-${unique}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: '${prefix}-control-${unique}'
  location: location
  tags: union(tags, { 'azd-service-name': 'control-plane' })
  kind: 'functionapp,linux'
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${identity.id}': {} } }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identity.id
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${storage.properties.primaryEndpoints.blob}${storage::blobs::packages.name}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      scaleAndConcurrency: { maximumInstanceCount: 40, instanceMemoryMB: 2048 }
      runtime: { name: 'python', version: '3.13' }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      appSettings: [
        { name: 'AzureWebJobsStorage__accountName', value: storage.name }
        { name: 'AzureWebJobsStorage__credential', value: 'managedidentity' }
        { name: 'AzureWebJobsStorage__clientId', value: identity.properties.clientId }
        { name: 'ServiceBus__fullyQualifiedNamespace', value: '${bus.name}.servicebus.windows.net' }
        { name: 'ServiceBus__credential', value: 'managedidentity' }
        { name: 'ServiceBus__clientId', value: identity.properties.clientId }
        { name: 'AZURE_CLIENT_ID', value: identity.properties.clientId }
        { name: 'APPLICATIONINSIGHTS_CONNECTION_STRING', value: insights.properties.ConnectionString }
        { name: 'KPAX_SUBSCRIPTION_ID', value: subscription().subscriptionId }
        { name: 'KPAX_SPACE_DOMAIN', value: spaceDomain }
        { name: 'KPAX_DECISION_KEY', value: decisionKey }
        { name: 'KPAX_API_KEY', value: apiKey }
        { name: 'KPAX_STORAGE_URL', value: storage.properties.primaryEndpoints.table }
        { name: 'KPAX_CONTROL_PRINCIPAL', value: identity.properties.principalId }
        { name: 'KPAX_CLUSTER_VAULTS', value: string(clusterVaults) }
        { name: 'KPAX_BACKUP_ACCOUNTS', value: string(backupAccounts) }
        { name: 'KPAX_BACKUP_SCHEDULE', value: '0 0 2 * * *' }
        { name: 'KPAX_SWEEP_SCHEDULE', value: '0 * * * * *' }
        { name: 'KPAX_RECONCILE_SCHEDULE', value: '0 17 * * * *' }
        { name: 'KPAX_BILLING_URL', value: billingUrl }
        { name: 'KPAX_BILLING_TOKEN', value: billingToken }
        { name: 'KPAX_LOGS', value: 'json' }
      ]
    }
  }
  dependsOn: [ access ]
}

resource access 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in [ roles.blobOwner, roles.tableContributor ]: {
    name: guid(storage.id, identity.id, role)
    scope: storage
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
      principalId: identity.properties.principalId
      principalType: 'ServicePrincipal'
    }
  }
]

resource busAccess 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(bus.id, identity.id, roles.busOwner)
  scope: bus
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.busOwner)
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

output controlPlanePrincipalId string = identity.properties.principalId
output functionsUrl string = 'https://${app.properties.defaultHostName}'
output serviceBusNamespace string = bus.name
